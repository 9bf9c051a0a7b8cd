"""The generated world: judgments by a crowd of known quality, with planted and recorded faults."""

from curation.synthetic.corpus import policy_corpus
from curation.synthetic.folder import write_world
from curation.synthetic.settings import WorldSettings
from curation.synthetic.world import World, world

__all__ = ["World", "WorldSettings", "policy_corpus", "world", "write_world"]
