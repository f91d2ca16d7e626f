"""Runs a project of Blocks' own SDK as a handler of blocksd: python -m blocksd.project DIR."""
