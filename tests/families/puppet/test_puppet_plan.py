import keras
from helpers import generated_plain as plain

from keras_dynnets.families.puppet.plan import Plan


def test_what_is_generated_and_what_can_be_dropped():
    plan = Plan(plain())
    assert [layer.name for layer in plan.convolutions] == [
        "stage1_conv0", "stage1_conv1", "stage2_conv", "block_depthwise", "block_conv", "logits"
    ]  # fmt: skip
    ends = sorted(
        (segment.drop_order, segment.target.shape[1:])
        for segment in plan.segments
        if segment.drop_order is not None
    )
    assert ends == [(0, (8, 8, 32)), (1, (16, 16, 16))]
    assert [len(plan.running(dropped)) for dropped in range(3)] == [6, 4, 3]
    assert {a.name: b.name for a, b in plan.folds.items()} == {
        "stage1_conv0": "stage1_bn0", "stage1_conv1": "stage1_bn1", "block_depthwise": "block_bn"
    }  # fmt: skip
    assert (plan.channels, plan.kernel_size) == (32, 3)


def test_plans_of_keras_applications():
    """Plans need no kernels: generating those for 1,280 channels would take minutes here."""
    plan = Plan(keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=5))
    assert (len(plan.convolutions), plan.channels, plan.kernel_size) == (52, 1280, 3)
    assert [layer.name for layer in plan.kept if layer.weights] == ["predictions"]
    targets = {
        segment.target._keras_history.operation.name
        for segment in plan.segments
        if segment.drop_order is not None
    }
    assert {"block_2_add", "block_8_add", "block_15_add"} <= targets
    assert len(plan.running(plan.droppable)) == 52 - sum(
        sum(node.operation in plan.convolutions for node in segment.nodes)
        for segment in plan.segments
        if segment.drop_order is not None
    )
