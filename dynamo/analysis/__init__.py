"""Questions to a map, one function each. They load on first use: ``dynamo.analysis.landscape(fit, population)``."""

from typing import TYPE_CHECKING

from dynamo.lazy import lazy_names

_MODULES = {
    "dynamics.attractor": ("attractor_geometry",),
    "dynamics.attractor_map": ("attractors_over_the_map",),
    "dynamics.conjugacy": ("conjugacy",),
    "dynamics.constant_input": ("constant_input",),
    "dynamics.fixed_points": ("find_fixed_points", "sample_states"),
    "dynamics.interchange": ("interchange",),
    "dynamics.linearisation": ("linearise",),
    "dynamics.portrait": ("portrait",),
    "dynamics.slow_points": ("nearly_fixed", "slow_points"),
    "dynamics.state_space": ("state_space",),
    "dynamics.transport": ("transport",),
    "dynamics.word_map": ("word_map",),
    "dynamics.words": ("word_list", "word_score"),
    "geometry.agreement": ("agreement",),
    "geometry.alignment": ("align",),
    "geometry.clusters": ("find_clusters", "group_agreement"),
    "geometry.order": ("order",),
    "geometry.spectrum": ("spectrum", "spectrum_of_distances"),
    "networks.averages": ("average", "between", "mean_theta"),
    "networks.evaluate": ("scores_at",),
    "networks.few_labels": ("few_labels",),
    "networks.geodesic": ("geodesic",),
    "networks.landscape": ("landscape",),
    "networks.over_the_map": ("over_the_map", "places_at", "places_between", "places_by"),
    "networks.search": ("search",),
    "rivals": ("distance_matrix",),
    "rivals.compare": ("compare",),
    "rivals.mds": ("mds",),
    "rivals.pairs": ("pair_figures",),
}
_WHERE = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = list(_WHERE)

__getattr__, __dir__ = lazy_names(__name__, _WHERE)

if TYPE_CHECKING:
    from dynamo.analysis.dynamics.attractor import attractor_geometry as attractor_geometry
    from dynamo.analysis.dynamics.attractor_map import attractors_over_the_map as attractors_over_the_map
    from dynamo.analysis.dynamics.conjugacy import conjugacy as conjugacy
    from dynamo.analysis.dynamics.constant_input import constant_input as constant_input
    from dynamo.analysis.dynamics.fixed_points import find_fixed_points as find_fixed_points
    from dynamo.analysis.dynamics.fixed_points import sample_states as sample_states
    from dynamo.analysis.dynamics.interchange import interchange as interchange
    from dynamo.analysis.dynamics.linearisation import linearise as linearise
    from dynamo.analysis.dynamics.portrait import portrait as portrait
    from dynamo.analysis.dynamics.slow_points import nearly_fixed as nearly_fixed
    from dynamo.analysis.dynamics.slow_points import slow_points as slow_points
    from dynamo.analysis.dynamics.state_space import state_space as state_space
    from dynamo.analysis.dynamics.transport import transport as transport
    from dynamo.analysis.dynamics.word_map import word_map as word_map
    from dynamo.analysis.dynamics.words import word_list as word_list
    from dynamo.analysis.dynamics.words import word_score as word_score
    from dynamo.analysis.geometry.agreement import agreement as agreement
    from dynamo.analysis.geometry.alignment import align as align
    from dynamo.analysis.geometry.clusters import find_clusters as find_clusters
    from dynamo.analysis.geometry.clusters import group_agreement as group_agreement
    from dynamo.analysis.geometry.order import order as order
    from dynamo.analysis.geometry.spectrum import spectrum as spectrum
    from dynamo.analysis.geometry.spectrum import spectrum_of_distances as spectrum_of_distances
    from dynamo.analysis.networks.averages import average as average
    from dynamo.analysis.networks.averages import between as between
    from dynamo.analysis.networks.averages import mean_theta as mean_theta
    from dynamo.analysis.networks.evaluate import scores_at as scores_at
    from dynamo.analysis.networks.few_labels import few_labels as few_labels
    from dynamo.analysis.networks.geodesic import geodesic as geodesic
    from dynamo.analysis.networks.landscape import landscape as landscape
    from dynamo.analysis.networks.over_the_map import over_the_map as over_the_map
    from dynamo.analysis.networks.over_the_map import places_at as places_at
    from dynamo.analysis.networks.over_the_map import places_between as places_between
    from dynamo.analysis.networks.over_the_map import places_by as places_by
    from dynamo.analysis.networks.search import search as search
    from dynamo.analysis.rivals import distance_matrix as distance_matrix
    from dynamo.analysis.rivals.compare import compare as compare
    from dynamo.analysis.rivals.mds import mds as mds
    from dynamo.analysis.rivals.pairs import pair_figures as pair_figures
