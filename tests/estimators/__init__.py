"""Tests of xpnet.estimators."""
