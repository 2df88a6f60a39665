"""The one model there is."""

from protocols.catalogues import ModelRow


class ToyModels:
    def names(self):
        return {"toy-1"}

    def rows(self):
        yield ModelRow("toy-1", "Toys", "counts of a day, a line each", "A")

    def add(self, source, text):
        raise NotImplementedError


MODELS = ToyModels()
