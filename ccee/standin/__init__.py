"""The strict stand-in for CCEE's interface, for tests, demonstrations and training.

Charter: what it decides (`rules`) and keeps (`records`), its register of units (`register`), its own
description (`openapi`), and HTTP around them (`server`). Not here: anything that a delivery needs.
"""
