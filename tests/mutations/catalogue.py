"""Every law, broken on purpose: one small change of the code each, and the tests that must notice.

A mutation that no test notices is a law that nothing blocked: then the tests are wrong, not the list.
"""

from tests.mutations import (
    acting,
    bootstrapping,
    calling,
    deciding,
    guarding,
    identifying,
    judging,
    leading,
    observing,
    permitting,
    planning,
    providing,
    rolling,
    storing,
)

MUTATIONS = (
    *deciding.MUTATIONS,
    *planning.MUTATIONS,
    *rolling.MUTATIONS,
    *identifying.MUTATIONS,
    *observing.MUTATIONS,
    *acting.MUTATIONS,
    *calling.MUTATIONS,
    *guarding.MUTATIONS,
    *permitting.MUTATIONS,
    *leading.MUTATIONS,
    *providing.MUTATIONS,
    *judging.MUTATIONS,
    *storing.MUTATIONS,
    *bootstrapping.MUTATIONS,
)
