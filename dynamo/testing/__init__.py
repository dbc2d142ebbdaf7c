"""Contract checks for plugin authors.

One line tests a component, with whatever checks its kind calls for::

    from dynamo.testing import check_component

    def test_my_architecture():
        check_component(my_component)

The other functions check an object that is already built. Each raises ``AssertionError`` with a message that begins
with the name of the broken contract ("causality: ..."). They work on copies and leave torch's random state alone.
"""

from dynamo.testing.augmentations import check_augmentation
from dynamo.testing.components import check_component
from dynamo.testing.datasets import check_dataset
from dynamo.testing.divergences import check_divergence
from dynamo.testing.inputs import example_inputs
from dynamo.testing.maps import check_head, check_state_map
from dynamo.testing.meta_models import check_meta_model
from dynamo.testing.models import check_model, check_recurrent_model

__all__ = [
    "check_augmentation",
    "check_component",
    "check_dataset",
    "check_divergence",
    "check_head",
    "check_meta_model",
    "check_model",
    "check_recurrent_model",
    "check_state_map",
    "example_inputs",
]
