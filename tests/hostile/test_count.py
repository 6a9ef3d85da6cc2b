"""The suite has many hostile inputs: each ends in a valid result or one line for the user."""

from tests.hostile import test_archives, test_encoders, test_kaggle, test_models, test_outs, test_params


def test_there_are_at_least_400_hostile_inputs():
    modules = (test_archives, test_encoders, test_kaggle, test_models, test_params)
    counts = [len(module.CASES) for module in modules]
    counts += [len(test_params.FILES), len(test_outs.KINDS) * (len(test_outs.BYTES) + test_outs.SEEDS)]
    assert sum(counts) >= 400
