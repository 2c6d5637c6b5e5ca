import pytest

from braindino import catalog
from braindino.stats.names import encoder_name, head_name, plugin_of


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (("braindino",), "braindino"),
        (("braindino", "exact", "none"), "braindino"),
        (("braindino", "brain"), "braindino@brain"),
        (("braindino", "brain", "mean_patch", "weighted"), "braindino@brain+mean_patch+weighted"),
        (("braindino", "", "cls", "concat"), "braindino+concat"),
        (("brainiac", "first"), "brainiac"),
        (("brainiac", "mean"), "brainiac@mean"),
        (("dinov3", "exact"), "dinov3"),
        (("clinical", "", "cls", "concat"), "clinical+concat"),
    ],
)
def test_what_is_not_the_plain_way_of_an_encoder_is_named(given, name):
    assert encoder_name(*given) == name and plugin_of(name) == given[0]


def test_what_stands_around_a_head_is_named():
    assert head_name("cox") == "cox" and head_name("cox", combat=True) == "cox+combat"
    assert head_name("linear", True, "isotonic") == "linear+combat+isotonic"
    assert head_name("linear", calibrate="temperature") == "linear+temperature"
    assert plugin_of("cox+combat") == "cox" == plugin_of("cox")


def test_every_variant_leads_back_to_its_plug_in():
    encoders, heads = catalog.names("encoders"), catalog.names("heads")
    assert [plugin_of(name) for name in (*encoders, *heads)] == [*encoders, *heads]
    for encoder in encoders:
        named = [encoder_name(encoder, variant) for variant in catalog.variants("encoders", encoder)]
        assert named[0] == encoder and len(set(named)) == len(named) and {plugin_of(one) for one in named} == {encoder}
