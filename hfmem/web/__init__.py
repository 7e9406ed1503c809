"""The page: a model, its options, and the answer at once, for people and for agents (needs the extra `[web]`).

`controls` and `form` make the controls from the table of options, `question` reads what a visitor asks and bounds it,
`models` fetches, `service` answers, `answer` and `page` draw, `api` offers the same to programs, and `server` serves it
with Gradio. Only `server` and `__main__` need Gradio.
"""
