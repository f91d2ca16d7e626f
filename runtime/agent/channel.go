package agent

import (
	"context"

	"github.com/blocksd/blocksd/network/link"
)

// taskChannel is where the events of a task are published.
type taskChannel struct {
	name, token string // the token allows to write
	meta        []byte
	outbox      queue
	// abandonArtifacts ends the publishing of artifacts; release frees all contexts of the job.
	abandonArtifacts, release context.CancelFunc

	// newest is the timetoken of the last event that was published, uploads the file ids of the artifacts that were
	// uploaded. Only what the outbox sends touches them, one at a time.
	newest  string
	uploads []string
}

func (j *job) message(body []byte) link.Message {
	return link.Message{Channel: j.channel.name, Token: j.channel.token, Meta: j.channel.meta, Body: body, Store: true}
}
