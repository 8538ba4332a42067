"""Recommenders that RecBole lacks. Any of them can be trained alone, be a teacher, or be a student.

MF, ML, DL and HistoryEncoder are small students: inner product, metric, network over pairs, network over histories.
CML and ItemVAE are teachers: metric learning, and an auto-encoder of items.
"""
