"""The label of an instance: the version that its tags name."""

import asyncio

from infrakit.gate.authority import NotBegun
from infrakit.gate.gate import CALL_DEADLINE_S
from infrakit.group.actions import Label
from infrakit.group.calls.caller import CallingGroup, error_text, pause
from infrakit.group.plan import DesiredState
from infrakit.group.plan.adopting import FAILURES
from infrakit.spi import errors, values
from infrakit.spi.event import Kind


async def label(group: CallingGroup, action: Label, want: DesiredState) -> bool:
    """Label one instance. True: the provider confirmed success."""
    labels = {values.TAG_HASH: action.hash}
    if action.made_from:
        labels[values.TAG_MADE_FROM] = action.made_from

    def begin() -> None:
        group.require(want)
        if (member := group.view.members.get(action.instance)) is not None:
            until = asyncio.get_running_loop().time() + CALL_DEADLINE_S + group.view.lag_s
            member.label_requested(action.hash, until=until)

    try:
        await group.gate.label(
            group.account.instance,
            instance=action.instance,
            labels=labels,
            begin=begin,
        )
    except NotBegun as stopped:
        await pause(stopped)
        return False
    except errors.Throttled as throttled:
        group.account.throttle(throttled.after_s)
    except Exception as error:
        key = f"{FAILURES}{action.instance}"
        if key not in group.view.backoffs:  # else it is reported as blocked
            group.report(Kind.ERROR, action, f"labelling failed: {error_text(error)}", instance=action.instance)
        group.view.record_failure(key, error_text(error))
    else:
        if (member := group.view.members.get(action.instance)) is not None:
            member.was_labelled(action.hash, action.made_from, asyncio.get_running_loop().time())
        group.report(Kind.LABELLED, action, action.reason, instance=action.instance)
        return True
    return False
