"""The schema's history: Alembic revisions that run the plain SQL in `sql/`.

Forward only: a downgrade would have to throw evidence away, so none is offered; to go back, restore a backup.
"""
