"""`python -m tests.fuzz MINUTES`: the same properties, again and again with new examples."""

import logging
import sys
import time

from tests.fuzz import test_fuzz


def main() -> None:
    end = time.monotonic() + float(sys.argv[1]) * 60
    logging.getLogger("infrakit.rpc.dispatch").addHandler(test_fuzz.Raised())
    examples = 0
    while time.monotonic() < end:
        test_fuzz.test_a_server_answers_or_stays_silent()
        test_fuzz.test_a_client_has_a_value_of_the_type_or_an_error_of_ours()
        test_fuzz.test_a_handshake_is_read_or_refused()
        examples += 3 * test_fuzz.EXAMPLES
    print(f"{examples:,} examples, no crash")


if __name__ == "__main__":
    main()
