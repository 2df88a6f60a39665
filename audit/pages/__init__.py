"""A trace as a document, of one interval or of a whole day, in two languages.

Charter: `making` goes from a UC and an instant or a day to the document; `document` and `day_document` put
the sections in order; `sections`, `places`, `calculation` and `estimates` say each in sentences; `words` has
the language and the zone. Not here: gathering and comparing (`audit.trace`, `audit.day`), how a document is
written down (`documents`).
"""

from audit.pages.making import Page, day_page, interval_page

__all__ = ["Page", "day_page", "interval_page"]
