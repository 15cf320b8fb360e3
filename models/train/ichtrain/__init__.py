"""Training recipes for ichwatch's models. One command a step: python -m ichtrain --help"""
