"""Secateur: prune a network and write its source anew."""
