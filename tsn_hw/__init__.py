"""Core of tsn-hw: the packed network, its arithmetic, its words and its file. Importing it never loads torch.

``__init__.pyi`` says which names there are and where they come from; each is imported when it is first used.
"""

import lazy_loader

from tsn_hw.core.aliases import install as _install_aliases

_install_aliases()
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
