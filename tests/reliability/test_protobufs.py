"""Each change that is drawn for a protobuf message can be made."""

from hypothesis import given, settings
from onnx import AttributeProto, helper

from tests.reliability.protobufs import changed


@settings(max_examples=500, deadline=None)
@given(changed(AttributeProto, helper.make_attribute("group", 2).SerializeToString()))
def test_a_closed_enum_gets_numbers_that_it_has(attribute):
    AttributeProto.FromString(attribute)
