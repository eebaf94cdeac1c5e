"""A company whose truth is known: customers, orders, surveys and campaigns from planted numbers.

``python -m analysis.simulate WORLD CUSTOMERS FOLDER [--seed N]`` writes one; a study with a ``simulation`` key makes its
own the first time its files are needed. Nothing here imports a room of the package.
"""
