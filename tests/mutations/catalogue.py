"""Every law, broken on purpose: one small change of the code each, and the tests that must notice.

A mutation that no test notices is a law that nothing blocked: then the tests are wrong, not the list.
"""

from tests.mutations import acting, deciding, guarding, identifying

MUTATIONS = (*deciding.MUTATIONS, *acting.MUTATIONS, *guarding.MUTATIONS, *identifying.MUTATIONS)
