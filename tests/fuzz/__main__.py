"""`python -m tests.fuzz MINUTES`: check the properties with new examples for that long."""

import logging
import sys
import time

from tests.fuzz import test_fuzz


def main() -> None:
    deadline = time.monotonic() + float(sys.argv[1]) * 60
    logging.getLogger("infrakit.rpc.dispatch").addHandler(test_fuzz.FailingHandler())
    examples = 0
    while time.monotonic() < deadline:
        test_fuzz.test_a_server_sends_a_valid_reply_or_an_empty_one()
        test_fuzz.test_a_client_returns_a_value_of_the_type_or_raises_infrakit_error()
        test_fuzz.test_a_handshake_is_decoded_or_rejected()
        examples += 3 * test_fuzz.EXAMPLES
    print(f"{examples:,} examples, no crash")


if __name__ == "__main__":
    main()
