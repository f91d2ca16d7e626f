//go:build !linux

package doctor

// landlockVersion: only Linux has it.
func landlockVersion() (version int, why string) { return 0, "this system has no landlock" }

// disk knows nothing of other systems.
func disk(string) (room int64, readOnly, noExec bool) { return -1, false, false }

// ownerOf knows nothing of other systems.
func ownerOf(string) (uid int, ok bool) { return 0, false }
