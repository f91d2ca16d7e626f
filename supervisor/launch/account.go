package launch

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
)

// account is a user that a handler runs as, with its main group and no other.
type account struct{ UID, GID uint32 }

// LookUpUser finds the numbers of a user, and of its main group, by its name or number.
func LookUpUser(name string) (uid, gid uint32, err error) {
	a, err := lookupAccount(name)
	return a.UID, a.GID, err
}

// lookupAccount finds a user by name or number. A number needs no entry in the user database; its group is the same number
// then.
func lookupAccount(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if n, numErr := strconv.ParseUint(name, 10, 31); numErr == nil {
			if u, err = user.LookupId(name); err != nil {
				return account{uint32(n), uint32(n)}, nil
			}
		}
	}
	if err != nil {
		var unknown user.UnknownUserError
		if errors.As(err, &unknown) {
			return account{}, fmt.Errorf("user %s does not exist: create it, or name another one", name)
		}
		return account{}, fmt.Errorf("look up user %s: %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %s has the number %q: %w", name, u.Uid, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %s has the group number %q: %w", name, u.Gid, err)
	}
	return account{uint32(uid), uint32(gid)}, nil
}
