"""What the computer lacks is told from what is wrong with a part or a file."""

from __future__ import annotations

import errno

from agent.runtime.shortage import is_passing, lacks_descriptors


def os_error(number: int) -> OSError:
    return OSError(number, "words")


def caused_by(error: BaseException) -> RuntimeError:
    raised = RuntimeError("the part")
    raised.__cause__ = error
    return raised


def test_a_lack_of_descriptors_is_found_wherever_it_began() -> None:
    assert lacks_descriptors(os_error(errno.EMFILE))
    assert lacks_descriptors(os_error(errno.ENFILE))
    assert lacks_descriptors(caused_by(caused_by(os_error(errno.EMFILE))))
    assert lacks_descriptors(BaseExceptionGroup("both", [ValueError(), os_error(errno.EMFILE)]))
    # As the loader of C modules says it.
    said = "/usr/lib/_json.so: cannot open shared object file: Too many open files"
    assert lacks_descriptors(ImportError(said))
    assert not lacks_descriptors(ImportError("No module named 'nope'"))
    assert not lacks_descriptors(os_error(errno.ENOENT))


def test_only_what_may_be_there_later_is_passing() -> None:
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
        assert is_passing(os_error(number))
    assert is_passing(MemoryError())
    for number in (errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ENOTDIR, errno.ELOOP):
        assert not is_passing(os_error(number))
    assert not is_passing(ValueError("EIO"))


def test_errors_that_cause_each_other_end() -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert not is_passing(one)
