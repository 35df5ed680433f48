"""The shapes that the API answers with and takes, for its description (OpenAPI).

Bodies are checked by :mod:`vmcloud.domain` alone, so that every door refuses the same things in the same words; the input
schemas here only describe them. Tests hold answers and schemas together.
"""
