"""What the comparison takes for a fault. `python3 tests/etcd/test_compare.py`, and the tests of the workspace run it."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

from compare import Difference, entry, expected, faults, steps

DOCUMENT = "A sum here is\nanother than etcd's."


def difference(**changes) -> Difference:
    given = {"step": "keys: sum", "reason": "another than etcd's", "etcd": "1\n", "raft_machine": "2\n"}
    return Difference(**given | changes)


def judged(*differences: Difference, etcd: str = "1\n", raft_machine: str = "2\n") -> list[str]:
    return faults({"keys: sum": etcd}, {"keys: sum": raft_machine}, list(differences), DOCUMENT)


class Comparison(unittest.TestCase):
    def test_an_outcome_belongs_to_its_scenario_and_step(self):
        printed = "== keys\n-- put\n|OK\n-- get\n|a\n|1\nexit 1\n-- get\n== users\n-- get\n|b\n"
        wanted = {"keys: put": "|OK\n", "keys: get": "|a\n|1\nexit 1\n", "keys: get (2)": "", "users: get": "|b\n"}
        self.assertEqual(steps(printed), wanted)
        self.assertRaises(ValueError, steps, "== keys\nlost\n")

    def test_what_is_the_same_is_no_fault(self):
        self.assertEqual(judged(raft_machine="1\n"), [])

    def test_a_difference_is_a_fault_unless_it_is_expected(self):
        self.assertIn("the systems differ", judged()[0])
        self.assertEqual(judged(difference()), [])

    def test_an_expected_difference_must_be_there_as_it_is_written_down(self):
        self.assertIn("a difference is expected and is not there", judged(difference(), raft_machine="1\n")[0])
        self.assertIn("otherwise than expected", judged(difference(), raft_machine="3\n")[0])
        self.assertIn("otherwise than expected", judged(difference(), etcd="3\n")[0])
        self.assertIn("no step is called `keys: gone`", judged(difference(), difference(step="keys: gone"))[0])
        self.assertIn("twice", judged(difference(), difference())[0])

    def test_a_reason_must_stand_in_the_document(self):
        self.assertIn("does not say", judged(difference(reason="because"))[0])
        self.assertIn("does not say", judged(difference(reason=""))[0])
        self.assertEqual(judged(difference(reason="A sum here is another")), [], "whatever the lines are broken into")

    def test_a_step_that_one_system_did_not_come_to_is_a_fault(self):
        self.assertIn("MISSING", faults({"keys: sum": "1\n"}, {}, [], DOCUMENT)[0])

    def test_what_was_seen_can_be_written_down_as_it_is_shown(self):
        for outcome in "", "|plain\n", "|it's 'quoted' and \\escaped\n", "|'''\n", '|"""\\\n':
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(entry("users: say 'it'", outcome, "|b\n"))
                file.flush()
                self.assertEqual(expected(Path(file.name)), [Difference("users: say 'it'", "", outcome, "|b\n")])


if __name__ == "__main__":
    unittest.main()
