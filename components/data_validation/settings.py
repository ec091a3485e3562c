"""The data gate's settings."""

from pydantic import Field

from data.settings import Section


class Validation(Section):
    """What the data must have, beyond the schema. Shares are 0 … 1; every split is compared with train."""

    min_class_examples: int = Field(1, ge=0, description="examples of each class in each split")
    max_blank: float = Field(0.01, ge=0, le=1, description="share of a split's examples whose values are all the same")
    max_range_ratio: float = Field(
        2.0,
        ge=1,
        description="how many times wider or narrower than in train the values of an example may lie, on average",
    )
    max_mean_difference: float = Field(
        0.15,
        ge=0,
        description="how far the mean of the values, the share of ink, may lie from train's, as a share of train's"
        " range; for small splits, three standard errors more",
    )
    max_test_in_train: float = Field(
        0.001, ge=0, le=1, description="share of the test examples that may also be in train or eval, by their content"
    )
