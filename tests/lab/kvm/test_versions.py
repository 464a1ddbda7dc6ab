"""From the release of a kernel to the profile that stands for its KVM."""

from __future__ import annotations

import pytest

from hyp.profiles import PROFILES
from lab.errors import UserError
from lab.kvm.versions import FIRST_RELEASES, profile_of


@pytest.mark.parametrize(
    ("release", "profile"),
    [
        ("3.9.0", "2012"),
        ("4.17.19", "2012"),
        ("5.10.0-30-arm64", "2018"),
        ("5.16", "2021"),
        ("6.1.0-56-arm64", "6.1"),
        ("6.12.3", "6.1"),
        ("7.2.0-rc1", "2026"),
    ],
)
def test_profile_is_the_newest_that_is_not_newer_than_the_kernel(
    release: str, profile: str
) -> None:
    assert profile_of(release) == profile


def test_every_profile_of_the_table_exists() -> None:
    assert set(FIRST_RELEASES.values()) <= set(PROFILES)
    assert list(FIRST_RELEASES) == sorted(FIRST_RELEASES)


@pytest.mark.parametrize(("release", "text"), [("3.8.1", "came with 3.9"), ("", "no release")])
def test_kernel_without_kvm_is_refused(release: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        profile_of(release)
