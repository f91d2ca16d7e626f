package link_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
)

// BenchmarkPublish compares publishing through a Link, which uses the SDK, with the same request sent by net/http alone,
// in one run. The metric of interest is the ratio.
func BenchmarkPublish(b *testing.B) {
	body := []byte(`{"type":"progress","taskId":"tsk_8f21","progress":0,"state":"running","protocolVersion":"2026-05-01"}`)
	meta := []byte(`{"agentName":"sum_bot","taskId":"tsk_8f21","protocolVersion":"2026-05-01"}`)
	n := newNetwork(b)
	l := n.link(func(c *link.Config) { c.Transport = nil })
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.Cleanup(hc.CloseIdleConnections)
	url := fmt.Sprintf("http://%s/publish/%s/%s/0/c/0?meta=%%7B%%22agentName%%22%%3A%%22sum_bot%%22%%7D&store=0&uuid=tester&auth=token", n.origin, keys.PublishKey, keys.SubscribeKey)
	ctx := context.Background()
	var through, bare time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := l.Publish(ctx, link.Message{Channel: "c", Token: "token", Meta: meta, Body: body}); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := hc.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			b.Fatal(resp.Status, err)
		}
		resp.Body.Close()
		through += middle.Sub(start)
		bare += time.Since(middle)
	}
	b.ReportMetric(float64(through)/float64(bare), "times-net/http")
	b.ReportMetric(float64(through.Nanoseconds())/float64(b.N), "link-ns/op")
	b.ReportMetric(float64(bare.Nanoseconds())/float64(b.N), "net/http-ns/op")
}

// BenchmarkIdleLink shows what one more link costs while it does nothing.
func BenchmarkIdleLink(b *testing.B) {
	shared := link.NewShared(context.Background(), "127.0.0.1:1", true)
	defer shared.Close()
	var links []*link.Link
	measure := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := measure()
	for b.Loop() {
		l, err := link.New(link.Config{Origin: "127.0.0.1:1", Secure: true, Keys: keys, UserID: "idle", Shared: shared})
		if err != nil {
			b.Fatal(err)
		}
		links = append(links, l)
	}
	after := measure()
	b.ReportMetric(float64(after-before)/float64(len(links)), "bytes/link")
	for _, l := range links {
		l.Close()
	}
}
