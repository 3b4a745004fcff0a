"""Routines (Ray-free units of training work), the one training loop, and the adapter that makes them Ray trainables.

`from trainables.adapter import trainable`; `trainable("train")` is an ordinary `ray.tune` Trainable.
"""
