"""Meters that speak by themselves (SSU, CELESC): their output (`output`) and the ways out (`server`)."""
