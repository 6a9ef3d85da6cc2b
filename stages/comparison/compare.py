"""Write report/compare.html, which shows experiments side by side."""

import argparse
from pathlib import Path

from stages.common.files import write_atomic
from stages.common.stage import stage
from stages.comparison.experiments import find_revisions, read_experiment
from stages.comparison.page import render_page

PAGE = Path("report/compare.html")


@stage
def main() -> str:
    """Write the page; say which outs are missing."""
    parser = argparse.ArgumentParser(prog="python -m stages.comparison.compare", description=__doc__)
    help_names = "experiments, branches, tags, commits or `workspace`; default: the last commit and its experiments"
    parser.add_argument("names", nargs="*", help=help_names)
    revisions = find_revisions(parser.parse_args().names)
    experiments = [read_experiment(name, rev) for name, rev in revisions.items()]
    write_atomic(PAGE, render_page(experiments))
    for experiment in experiments:
        if experiment.missing:
            print(f"compare: {experiment.describe_missing()}")
    return f"{len(experiments)} side by side; open {PAGE}"


if __name__ == "__main__":
    main()
