package api

import (
	"net/http"

	"github.com/blocksd/blocksd/sandbox/blocks"
)

// invite offers the use of a private agent to a user or an organization.
func (s *Server) invite(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Email string `json:"email"`
		Slug  string `json:"targetOrgSlug"`
	}
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	var v blocks.Invitation
	if err == nil {
		v, err = s.blocks.Invite(p, r.PathValue("name"), req.Email, req.Slug)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	// No mail leaves the sandbox: a client shows the link when the answer says that nobody was notified.
	answer(w, http.StatusOK, map[string]any{"notified": 0, "inviteUrl": "http://" + s.origin + "/invite/" + v.Token})
}

func (s *Server) invitations(w http.ResponseWriter, r *http.Request) {
	p, err := s.identified(r)
	var all []blocks.Invitation
	if err == nil {
		all, err = s.blocks.Invitations(p, r.PathValue("name"))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type invitation struct {
		ID        string `json:"id"`
		Email     string `json:"email,omitempty"`
		OrgSlug   string `json:"targetOrgSlug,omitempty"`
		Scope     string `json:"scope"`
		ExpiresAt string `json:"expiresAt"`
		CreatedAt string `json:"createdAt"`
	}
	out := []invitation{}
	for _, v := range all {
		out = append(out, invitation{v.ID, v.Email, v.OrgSlug, scope(v.Email != ""), timeText(v.Expires), timeText(v.Created)})
	}
	answer(w, http.StatusOK, map[string]any{"invitations": out})
}

// scope says whether something is for a user or for an organization.
func scope(user bool) string {
	if user {
		return "user"
	}
	return "org"
}

func (s *Server) acceptInvitation(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Token string `json:"token"`
	}
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	var name string
	if err == nil {
		name, err = s.blocks.Accept(p, req.Token)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"agentName": name})
}

func (s *Server) grants(w http.ResponseWriter, r *http.Request) {
	p, err := s.identified(r)
	var all []blocks.GrantRecord
	if err == nil {
		all, err = s.blocks.Grants(p, r.PathValue("name"))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type user struct {
		Name  string `json:"name"`
		Email string `json:"email"`
	}
	type grant struct {
		ID        string   `json:"id"`
		Scope     string   `json:"scope"`
		CreatedAt string   `json:"createdAt"`
		User      *user    `json:"granteeUser,omitempty"`
		Org       *orgBody `json:"granteeOrg,omitempty"`
	}
	out := []grant{}
	for _, g := range all {
		body := grant{ID: g.ID, Scope: scope(g.User), CreatedAt: timeText(g.Created)}
		if g.User {
			body.User = &user{g.Org.UserID, g.Org.Email}
		} else {
			body.Org = &orgBody{g.Org.ID, g.Org.Name, g.Org.Slug}
		}
		out = append(out, body)
	}
	answer(w, http.StatusOK, map[string]any{"grants": out})
}

func (s *Server) revokeGrant(w http.ResponseWriter, r *http.Request) {
	p, err := s.identified(r)
	if err == nil {
		err = s.blocks.RevokeGrant(p, r.PathValue("name"), r.PathValue("id"))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"id": r.PathValue("id"), "status": "revoked"})
}

// invitePage is where the address of an invitation leads: no page accepts it, so this one names the command that does.
func (s *Server) invitePage(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]string{"accept": "blocks invite accept " + r.PathValue("token")})
}
