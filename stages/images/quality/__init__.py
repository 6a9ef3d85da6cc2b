"""Measure and judge the files of a class."""
