"""Classes laid out in rare ways: tabs, one line, comments in odd places. The source writer must keep their text."""

TABS = '''
import torch
from torch import nn
import functools


def same(cls):
	cls.seen = True
	return cls


# above the decorators
@same
# between the decorators
@functools.lru_cache
# above the function
def limit(x):  # behind it
	"""Text
	in	tabs."""
	return   x*2   # kept as it is


class Net(nn.Module):
	"""Words.

	Args:
		width: channels.
		groups: gone.
	"""

	a = 1; b = 2  # two on a line

	def __init__(self, width=4, groups=1):
		super().__init__()
		# the layer
		self.conv = nn.Conv2d(3, width, 3, padding=1, groups=groups)
		for m in self.modules():
			if isinstance(m, nn.Linear):
				nn.init.zeros_(m.bias)

	# about forward
	def forward(self, x):
		x = self.conv(x) *   self.b   # twice
		# a comment in it
		return (x
			+ limit(1))
		# a comment after the end

	# the last word
'''

ONE_LINE = """
import torch
from torch import nn

class Marker: pass
class Values: x = 1; y = 2; z = 3  # three
A = 1; B = 2; C = 3  # constants

class Act(nn.ReLU): pass
class Twice(nn.Module): scale = 2; unused = 3; forward = lambda self, x: x * self.scale

class Net(nn.Module):
    def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 4, 1); self.act = Act(); self.twice = Twice()
    def forward(self, x): y = self.act(self.conv(x)); return self.twice(y) * B + Values.y if Marker else y
"""

FORM_FEEDS = (
    "import torch\nfrom torch import nn\n\x0c\nclass Net(nn.Module):\n    def __init__(self):\n"
    "        super().__init__()\n        self.fc = nn.Linear(4, 2)\n\x0c\n    def forward(self, x):\n"
    '        """A page\x0cbreak."""\n        return self.fc(x.view(-1, 4))\n\x0c\n\x0cdef make():\n    return Net()\n'
)

NESTED = '''
import torch
from torch import nn


def build():
    class Inner(nn.Module):
        """Deeper
        than others.
      And ragged."""

        text = """left
  as it
        is"""

        def __init__(self, width=3):
            super().__init__()
            self.fc = nn.Linear(width, width)

        def forward(self, x):
            return self.fc(x) * len(self.text)

    class Net(nn.Module):
        class Config:
            scale = 2
            # said inside

            def twice(self): return self.scale * 2

        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x) * self.Config().twice()

    return Net()


try:
    import absent_package
except ImportError:
    # guarded
    class Net2(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x)
'''

UNICODE = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.fc = nn.Linear(width * 64, 10)

    def forward(self, x):
        größe = "ein Maß, 漢字"; x = self.conv(x); x = x.reshape((-1), (4 * 8 * 8)); n = len("é"), 4 * 8 * 8  # ähnlich
        return self.fc(x) + len(größe) * 0
'''

STRINGS = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        """Ragged
words."""
        super().__init__()
        self.note = """one


 two"""
        self.fc = nn.Linear(width, width)
        if width > 2:
            self.more = """three
four"""

    def forward(self, x):
        return self.fc(x) * len(self.note) * len(self.more)
'''

INHERITED = '''
from torch import nn


class Base(nn.Module):
    """A parent with the constructor."""

    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(width, width)


class Net(Base):
    """A child without one."""

    scale = 2

    def forward(self, x):
        return self.fc(x) * self.scale
'''

COMMENTS = '''#!/usr/bin/env python
# -*- coding: utf-8 -*-
# Copyright (c) somebody. Licensed under the MIT licence.
#
# Second paragraph.
"""Module docstring."""
from torch import nn

# above LIMIT
LIMIT = (  # opens
    1,  # first
    2,
)  # closes

# far away

# above Net
class Net(nn.Module):  # behind the colon
    # opens the class

    gone = 1  # goes

    # above stays
    stays = 2  # stays

    # above the constructor
    def __init__(self):  # of Net
        super().__init__()
        self.fc = self._gone()  # the layer

    # above helper
    def helper(self):
        return None

    # above what went
    def _gone(self):
        return nn.Linear(4, 4)

    # above forward
    def forward(self, x):
        return self.fc(x) * self.stays * LIMIT[1]
    # at the end
'''
