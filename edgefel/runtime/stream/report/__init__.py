"""The report of a stream: what was seen of each person, as a page and a table. Bounded memory, however long it runs."""
