package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"ichwatch/dimse/reload"
)

// Why a user does not come in. They say nothing that the peer sent.
var (
	ErrUnknownUser    = errors.New("the username is not in the file of users")
	ErrPasscode       = errors.New("the passcode is not the user's")
	ErrPasscodeNeeded = errors.New("the username came without a passcode")
)

// noPasscode stands in the file where a username alone lets in.
const noPasscode = "no-passcode"

// Users are those of a file, which may be replaced at any time. It is a
// dimse.Authenticator.
type Users struct {
	value *reload.Value[map[string]user]
	decoy hash          // for usernames that do not exist: they take as long
	turn  chan struct{} // holds one: whoever computes a hash
	key   []byte        // of confirmed's sums

	mu        sync.Mutex
	confirmed map[string]confirmation
}

type user struct {
	line       string // behind the colon
	noPasscode bool
	hash       hash
}

// confirmation spares a user who comes again, with each image perhaps, the time
// of the hash, and the wait behind those who guess.
type confirmation struct {
	line string // against which it was made
	sum  []byte // HMAC of the passcode
}

// Open reads the file of users. log is told when it changes.
func Open(path string, log *slog.Logger) (*Users, error) {
	value, err := reload.New(log, func() (map[string]user, error) { return readUsers(path) }, path)
	if err != nil {
		return nil, err
	}
	u := &Users{value: value, turn: make(chan struct{}, 1), key: make([]byte, sha256.Size), confirmed: map[string]confirmation{}}
	_, _ = rand.Read(u.key) // never fails (crypto/rand)
	u.decoy = hash{time: newTime, memory: newMemory, threads: newThreads, salt: u.key[:saltLength], key: make([]byte, keyLength)}
	return u, nil
}

// Authenticate returns nil where username is in the file and passcode is its; nil
// is none. It waits, as long as ctx, for its turn to compute a hash.
func (u *Users) Authenticate(ctx context.Context, username string, passcode []byte) error {
	user, known := u.value.Get()[username]
	switch {
	case known && user.noPasscode:
		return nil
	case passcode == nil:
		return ErrPasscodeNeeded
	case len(passcode) > MaxPasscode:
		return ErrPasscode
	case known && u.isConfirmed(username, user, passcode):
		return nil
	}
	h := u.decoy
	if known {
		h = user.hash
	}
	select {
	case u.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	matches := h.matches(passcode)
	<-u.turn
	switch {
	case !known:
		return ErrUnknownUser
	case !matches:
		return ErrPasscode
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.confirmed[username] = confirmation{user.line, u.sum(passcode)}
	return nil
}

func (u *Users) isConfirmed(username string, user user, passcode []byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := u.confirmed[username]
	return c.line == user.line && hmac.Equal(c.sum, u.sum(passcode))
}

func (u *Users) sum(passcode []byte) []byte {
	mac := hmac.New(sha256.New, u.key)
	mac.Write(passcode)
	return mac.Sum(nil)
}

const (
	maxFile     = 1 << 20
	maxUsername = 64
)

func readUsers(path string) (map[string]user, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("is larger than %d bytes", maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("users: %s: %w", path, err)
	}
	users, err := parseUsers(text)
	if err != nil {
		return nil, fmt.Errorf("users: %s: %w", path, err)
	}
	return users, nil
}

// parseUsers reads the lines of the file. Its errors name the line and repeat
// nothing of it.
func parseUsers(text []byte) (map[string]user, error) {
	users := map[string]user{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		s := strings.TrimSpace(string(line))
		if s == "" || s[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(s, ":")
		u := user{line: rest, noPasscode: rest == noPasscode}
		err := checkUsername(name)
		if _, twice := users[name]; twice && err == nil {
			err = errors.New("the user has a line already")
		}
		if err == nil && !u.noPasscode {
			u.hash, err = parseHash(rest)
			if err != nil {
				err = fmt.Errorf("what follows the colon %w", err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		users[name] = u
	}
	return users, nil
}

// checkUsername says whether a name can stand in the file.
func checkUsername(name string) error {
	foreign := strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' || r == '\uFFFD' })
	if name == "" || len(name) > maxUsername || foreign || name[0] == '#' || strings.TrimSpace(name) != name {
		return fmt.Errorf("a username has 1 to %d bytes, no colon, no # in front, no space at either end", maxUsername)
	}
	return nil
}

// Line is a line of the file: for one user and one passcode.
func Line(username string, passcode []byte) (string, error) {
	if err := checkUsername(username); err != nil {
		return "", err
	}
	h, err := Hash(passcode)
	return username + ":" + h, err
}
