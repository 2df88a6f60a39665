"""What there is to read: targets, plans, urgency, and how each point stands.

Charter: facts from the registry, the readings and the queue in, requests out. Nothing here talks to a meter;
the service that works the requests off is beside this folder.
"""
