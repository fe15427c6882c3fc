"""Miniatures of the folders that 10x Genomics' software writes, small enough for tests, for the real readers to read.

Every image says where each of its pixels is: red is x, green is y. So a crop tells which place it was cut from.
"""
