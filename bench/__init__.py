"""The bench: what each proxy costs on the same work in one run, every answer compared byte for byte.

`python -m bench` runs it; README of the numbers: docs of the project. It needs two cores, a C compiler and libssl's
headers; the proxies it finds on this machine take part, the others are named with a sentence.
"""
