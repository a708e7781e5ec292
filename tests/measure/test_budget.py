import pytest

from keras_dynnets import cnsn, zoo
from keras_dynnets.profile import count


@pytest.fixture(scope="module")
def model():
    model = zoo.load("cnsn_vgg16_half", weights=None, widths=(0.5,))
    model.accuracy = {
        "base": 0.9,
        "sub1": 0.88,
        "sub2": 0.8,
        "base_w50": 0.85,
        "sub1_w50": 0.84,
        "sub2_w50": 0.7,
    }
    return model


@pytest.mark.parametrize(
    "budget, name",
    [(1e9, "base"), (70e6, "sub1"), (50e6, "base_w50"), (18e6, "sub1_w50"), (8e6, "sub2_w50")],
)
def test_the_most_accurate_within_a_budget_of_macs(model, budget, name):
    choice = cnsn.choose(model, max_macs=budget)
    assert choice.name == name and choice.accuracy == model.accuracy[name] and choice.ms is None
    assert choice.macs == count(choice.model).macs <= budget
    assert (
        model.detach(choice.sub_model, choice.width).output_shape
        == choice.model.output_shape
        == (None, 10)
    )


@pytest.mark.parametrize("runtime", ["tensorflow", "litert", "onnx"])
def test_time_is_measured(model, runtime):
    choice = cnsn.choose(model, max_ms=1e6, runtime=runtime, repeats=1)
    assert choice.name == "base" and choice.ms > 0
    with pytest.raises(
        ValueError,
        match=f"no sub-model takes at most 1e-06 ms in {runtime}; the fastest is .*, [0-9.]+ ms",
    ):
        cnsn.choose(model, max_ms=1e-6, runtime=runtime, repeats=1)


def test_slow_ones_are_passed_over(model, monkeypatch):
    asked = []

    def milliseconds(part, *_):
        asked.append(part.name)
        return 5.0 if "sub2" in part.name else 50.0

    monkeypatch.setattr("keras_dynnets.measure.budget.milliseconds", milliseconds)
    assert cnsn.choose(model, max_macs=50e6, max_ms=10).name == "sub2"
    assert asked == ["cnsn_vgg16_half_base_w50", "cnsn_vgg16_half_sub1_w50", "cnsn_vgg16_half_sub2"]


def test_refusals(model):
    with pytest.raises(ValueError, match="needs a budget"):
        cnsn.choose(model)
    with pytest.raises(
        ValueError, match="no sub-model has at most 10 MACs; the smallest is sub2_w50, 7,865,600"
    ):
        cnsn.choose(model, max_macs=10)
    with pytest.raises(
        ValueError, match="runtime gpu is unknown; there are tensorflow, litert, onnx"
    ):
        cnsn.choose(model, max_ms=1, runtime="gpu")
    with pytest.raises(
        ValueError, match="no accuracy is recorded of base, sub1, sub2: fit with validation_data"
    ):
        cnsn.choose(zoo.load("cnsn_vgg16_half", weights=None), max_macs=1e9)
    with pytest.raises(
        ValueError, match="choose takes a model that detaches into several, not Functional"
    ):
        cnsn.choose(model.detach(0), max_macs=1e9)
