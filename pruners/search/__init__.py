"""How many groups each width keeps: the strategies behind ``pruners.search``."""
