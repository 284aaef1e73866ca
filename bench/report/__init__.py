"""Result rows as one self-contained page, and as Markdown."""
