"""The learner: data, task streams, and everything that trains subnetworks and freezes them into a packed network.

Names are imported when they are first used, because some of them load torch and Brevitas; ``__init__.pyi`` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
