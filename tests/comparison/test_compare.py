"""The page shows experiments from git and DVC's cache, says what is missing, and can be sorted."""

import re
import shutil
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from stages.comparison.compare import PAGE, main
from tests import project
from tests.browser import browser, needs_browser
from tests.comparison.conftest import write_outs

IMAGES = 4 + 4 + 2  # two prompts of two seeds, twice; one prompt


def compare(monkeypatch: pytest.MonkeyPatch, *names: str) -> str:
    """Write the page; return it."""
    monkeypatch.setattr("sys.argv", ["compare", *names])
    main()
    return PAGE.read_text(encoding="utf-8")


def names(page: str) -> list[str]:
    return re.findall(r'scope="row" data-key="([^"]*)"', page.partition("</table>")[0])


def test_page_shows_what_differs_in_the_order_of_the_metric(repository: Path, monkeypatch: pytest.MonkeyPatch):
    page = compare(monkeypatch)
    assert names(page) == ["high-rate", "HEAD", "&lt;i&gt;low"]
    assert set(re.findall(r'<button type="button" class="param" title="([^"]*)"', page)) == {
        "train.learning_rate",
        "render.prompts.sea",
    }
    assert "0.900 <small>0.850 to 0.950</small>" in page
    assert "−0.100 <small>−0.150 to −0.050</small>" in page
    assert page.count('src="data:image/jpeg') == IMAGES
    assert len(re.findall(r'<g data-experiment="\d"', page)) == 2 * 3
    assert "a …, &lt;b&gt;by&lt;/b&gt; the &#34;sea&#34; = &#39;x&#39;" in page
    assert "<b>by" not in page and "<i>low" not in page
    assert project.git(repository, "status", "--porcelain") == "", "nothing is checked out, and the page is ignored"


def test_names_choose_the_experiments_and_changed_results_add_the_workspace(
    repository: Path, monkeypatch: pytest.MonkeyPatch
):
    assert names(compare(monkeypatch, "main", "high-rate")) == ["high-rate", "main"]
    write_outs(repository, 0.03, 0.95, "red")
    project.run(repository, "dvc", "commit", "-q", "-f")
    assert names(compare(monkeypatch)) == ["workspace", "high-rate", "HEAD", "&lt;i&gt;low"]


def test_outs_missing_in_the_cache_are_named(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    shutil.rmtree(repository / ".dvc" / "cache")
    page = compare(monkeypatch, "high-rate")
    sentence = "data/estimates.csv, data/validation.csv, data/renders of high-rate cannot be read from DVC's cache"
    assert sentence in capsys.readouterr().out
    assert sentence.replace("'", "&#39;") in page
    assert names(page) == ["high-rate"]
    assert "0.9000" in page, "the metrics are in git"


def test_unknown_name_is_one_line(repository: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SystemExit, match=r"compare: nope: unknown Git revision 'nope'; `dvc exp list`"):
        compare(monkeypatch, "nope")


@needs_browser
def test_page_sorts_by_mouse_and_keyboard_and_fits_a_phone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    compare(monkeypatch)
    with browser(tmp_path / "profile") as window:
        window.get((repository / PAGE).as_uri())

        def order() -> tuple[list[str], list[str]]:
            rows = [row.text for row in window.find_elements(By.CSS_SELECTOR, "#table > .scroll tbody th")]
            figures = window.find_elements(By.CSS_SELECTOR, ".columns:first-of-type .column figcaption")
            return rows, [figure.text for figure in sorted(figures[:3], key=lambda figure: figure.rect["x"])]

        assert order() == (["high-rate", "HEAD", "<i>low"],) * 2
        heading = window.find_element(By.CSS_SELECTOR, "button[title='train.learning_rate']")
        heading.click()
        assert order() == (["high-rate", "HEAD", "<i>low"],) * 2
        heading.send_keys(Keys.ENTER)
        assert order() == (["<i>low", "HEAD", "high-rate"],) * 2
        assert heading.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
        ActionChains(window).move_to_element(window.find_element(By.CSS_SELECTOR, ".legend button")).perform()
        assert len(window.find_elements(By.CSS_SELECTOR, "svg.wide g.dim")) == 2
        assert window.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert window.get_log("browser") == []
        size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert window.execute_script("return document.documentElement.scrollWidth") == 390
