"""Mutations of the gate: authority, guard and voters."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "1 one actor",
        "volumes are deleted without the right to act",
        "gate/gate.py",
        '        """Delete a volume with its data."""\n        await self.permit(begin)\n',
        '        """Delete a volume with its data."""\n',
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "1 one actor",
        "labels are set without the right to act",
        "gate/gate.py",
        "        await self.permit(begin)\n"
        "        async with asyncio.timeout(CALL_DEADLINE_S):\n"
        "            await provider.label",
        "        async with asyncio.timeout(CALL_DEADLINE_S):\n            await provider.label",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a member counts as healthy again by a report from before its second was destroyed",
        "gate/guard.py",
        "is_proven = seen.healthy and seen.judged_at > self._again.get(slot, -math.inf)",
        "is_proven = seen.healthy",
        ("tests/unit/gate",),
    ),
    Mutation(
        "5 never make it worse",
        "a missing member counts as healthy",
        "gate/guard.py",
        "if seen.is_listed and (is_proven or",
        "if (is_proven or",
        ("tests/unit/gate",),
    ),
    Mutation(
        "5 never make it worse",
        "what was lost under the previous leader is forgotten",
        "gate/guard.py",
        '        self._lost |= {slot: f"{slot} is missing" for slot in self._recalled if slot not in self._bearers}\n',
        "",
        ("tests/unit/gate",),
    ),
    Mutation(
        "5 never make it worse",
        "sizes that take turns permit more creations each time",
        "gate/creations.py",
        "growth = max(0, size - largest)",
        "growth = max(0, size - old_size)",
        ("tests/unit/gate",),
    ),
    Mutation(
        "5 never make it worse",
        "two versions that take turns permit creations each time",
        "gate/creations.py",
        "is_first = new not in self._versions",
        "is_first = True",
        ("tests/unit/gate",),
    ),
    Mutation(
        "5 never make it worse",
        "a pet that was lost is outweighed by a member that is not declared",
        "gate/guard.py",
        "if slot not in self._bearers and (slot in declared or not is_whole)",
        "if slot not in self._bearers and not is_whole",
        ("tests/unit/gate/test_undeclared.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a quorum may end several healthy members at once",
        "gate/guard.py",
        "at_once = 1 if limits.quorum else limits.max_lost",
        "at_once = limits.max_lost",
        ("tests/unit/gate",),
    ),
    Mutation(
        "5 never make it worse",
        "the next member is destroyed although its replacement must not be created",
        "gate/guard.py",
        'return self._why_no_more(now) if lost and self._creations_left(now) <= 0 else ""',
        'return ""',
        ("tests/unit/gate",),
    ),
    Mutation(
        "4 unknown is not missing",
        "an old list of voters is believed",
        "gate/voters.py",
        "if now - self._requested_at <= AGE_S_MAX and self._voters:",
        "if self._voters:",
        ("tests/unit/gate/test_voters.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a voter of unknown health has a vote",
        "gate/voters.py",
        "return voter.healthy is True and (",
        "return voter.healthy is not False and (",
        ("tests/unit/gate/test_voters.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a voter counts although its instance is not healthy",
        "gate/voters.py",
        "return voter.healthy is True and (not voter.instances or any(each in healthy for each in voter.instances))",
        "return voter.healthy is True",
        ("tests/unit/gate/test_voters.py",),
    ),
    Mutation(
        "1 one actor",
        "a teardown continues after its halt was lifted",
        "gate/authority.py",
        "if await self._halted() is False:",
        "if False:",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "1 one actor",
        "machines are created although the store answers again",
        "gate/authority.py",
        "        if await self._answers():\n            raise Outdated",
        "        if False:\n            raise Outdated",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "1 one actor",
        "evidence of an actor without an epoch does not expire",
        "gate/authority.py",
        "return asyncio.get_running_loop().time() - self._proven_at <= RECENT_S",
        "return self._proven_at > -math.inf",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a drain that failed counts as a destruction",
        "gate/gate.py",
        "        except BaseException:\n            self._guard.not_destroyed(instance)\n            raise",
        "        except BaseException:\n            raise",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a destruction without an answer does not count",
        "gate/gate.py",
        "        except NOTHING_DONE:\n"
        "            self._guard.not_destroyed(instance)\n"
        "            raise\n"
        "\n"
        "    async def _begin",
        "        except Exception:\n"
        "            self._guard.not_destroyed(instance)\n"
        "            raise\n"
        "\n"
        "    async def _begin",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "5 never make it worse",
        "a creation without an answer does not count",
        "gate/gate.py",
        "        except NOTHING_DONE:\n            if is_first:",
        "        except Exception:\n            if is_first:",
        ("tests/unit/gate/test_gate.py",),
    ),
    Mutation(
        "3 exactly one per intent",
        "the census unpacks ranges without their last slot",
        "gate/census.py",
        "int(last if dash else first) + 1)",
        "int(last if dash else int(first) + 1))",
        ("tests/unit/gate/test_census.py",),
    ),
    Mutation(
        "5 never make it worse",
        "recorded creations beyond the limit are requested while many members have vanished",
        "gate/guard.py",
        "return min(0, left) if self.why_unproven else left",
        "return 0 if self.why_unproven else left",
        ("tests/unit/gate/test_creations.py",),
    ),
)
