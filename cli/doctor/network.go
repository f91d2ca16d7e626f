package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/link"
)

// document looks at the deployment document.
func document(ctx context.Context, w *world) []Result {
	net, err := w.reach(ctx)
	if err != nil {
		return []Result{fail("check the connection, a proxy (HTTPS_PROXY) and network.cdm_url or BLOCKS_CDM_URL", "%s", sentence(err))}
	}
	return []Result{ok("the network is at %s, PubNub at %s", net.BackendURL, net.Origin)}
}

// pubnub asks PubNub for its time.
func pubnub(ctx context.Context, w *world) []Result {
	_, took, err := w.pubnubTime(ctx)
	return []Result{aboutPubNub(took, err)}
}

// slow is a round trip that makes everything feel slow.
const slow = 2 * time.Second

func aboutPubNub(took time.Duration, err error) Result {
	switch {
	case err == errNoNetwork:
		return skip("see the check cdm", "where it is could not be found out")
	case err != nil:
		return fail("let this machine reach PubNub by HTTPS: check firewall and proxy", "%s", sentence(err))
	case took > slow:
		return warn("look at the connection: tasks start and end as slowly", "it answers after %s", took.Round(100*time.Millisecond))
	}
	return ok("it answers after %s", max(took.Round(time.Millisecond), time.Millisecond))
}

var errNoNetwork = fmt.Errorf("the network is not known")

// pubnubTime returns how far PubNub's clock is ahead of ours, and how long it took to ask.
func (w *world) pubnubTime(ctx context.Context) (ahead, took time.Duration, err error) {
	net, err := w.reach(ctx)
	if err != nil {
		return 0, 0, errNoNetwork
	}
	l, err := link.New(link.Config{Origin: net.Origin, Secure: net.Secure, Keys: net.CDM.Playground, UserID: "blocksd-doctor"})
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	begin := time.Now()
	text, err := l.Time(ctx)
	took = time.Since(begin)
	if err != nil {
		return 0, took, err
	}
	var ticks int64 // of 100 ns
	if _, err := fmt.Sscan(text, &ticks); err != nil {
		return 0, took, fmt.Errorf("PubNub's time %q cannot be read", text)
	}
	return time.Unix(0, ticks*100).Sub(begin.Add(took / 2)), took, nil
}

// clock compares ours with those of PubNub and of the API.
func clock(ctx context.Context, w *world) []Result {
	net, err := w.reach(ctx)
	if err != nil {
		return []Result{skip("see the check cdm", "there is no other clock to compare with")}
	}
	var seen []reading
	if ahead, _, err := w.pubnubTime(ctx); err == nil {
		seen = append(seen, reading{"PubNub", ahead})
	}
	if ahead, err := apiTime(ctx, net.BackendURL); err == nil {
		seen = append(seen, reading{"the API", ahead})
	}
	return []Result{aboutClock(seen)}
}

// reading says how far a clock is ahead of ours.
type reading struct {
	of    string
	ahead time.Duration
}

// How far our clock may be off: tokens and deadlines allow for some seconds, and the daemon corrects what PubNub says.
const (
	clockOff  = 5 * time.Second
	clockFail = 5 * time.Minute
)

func aboutClock(seen []reading) Result {
	if len(seen) == 0 {
		return skip("see the check pubnub", "there is no other clock to compare with")
	}
	var worst time.Duration
	var parts []string
	for _, r := range seen {
		worst = max(worst, r.ahead.Abs())
		word := "behind"
		if r.ahead < 0 {
			word = "ahead of"
		}
		if r.ahead.Abs() > clockOff {
			parts = append(parts, fmt.Sprintf("it is %s %s that of %s", r.ahead.Abs().Round(time.Second), word, r.of))
		}
	}
	const fix = "set the clock, and keep it right with systemd-timesyncd or chrony"
	switch {
	case worst > clockFail:
		return fail(fix, "%s", strings.Join(parts, ", "))
	case worst > clockOff:
		return warn(fix, "%s", strings.Join(parts, ", "))
	}
	return ok("it agrees with that of the network within %s", max(worst.Round(100*time.Millisecond), 100*time.Millisecond))
}

// apiTime reads the clock of a web server, which is exact to a second.
func apiTime(ctx context.Context, address string) (ahead time.Duration, err error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address+"/api/v1/cdm", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return 0, err
	}
	ahead = at.Add(500 * time.Millisecond).Sub(begin.Add(time.Since(begin) / 2))
	if ahead.Abs() < time.Second { // less than it can say
		return 0, nil
	}
	return ahead, nil
}
