"""materialise, the second verb: topic -> facet in the store.

In reading order:

    schemas   the contracts that records were written under; a flood of made-up ids is one question
    effects   one delivery -> what it does to the store (a facet, a watermark, a reject); pure but for the registry
    loop      poll, turn into effects, put effects and position in one transaction

`Materialiser.run` is the whole process: whoever reads it has read the verb.
"""

from exchange.materialise.effects import Effects
from exchange.materialise.loop import Materialiser

__all__ = ["Effects", "Materialiser"]
