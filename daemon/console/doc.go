// Package console is the page for on-call staff and technicians: what waits for
// an answer, the slices with what the model made of them, and how the device is.
//
//	GET /                  the list, by urgency; /events keeps it as it is (SSE)
//	GET /study/{study}     a study: slices in three windows, scores, its alert
//	POST /alert/{alert}/…  an answer: acknowledged, or a reader's verdict
//	GET /device            peers, queues, disk, model, log, configuration
//	GET /trail             what people did
//
// Pages are made here (html/template) and kept up to date by a little script;
// nothing is built at run time and nothing comes from elsewhere. Without a script
// the list, the key slices and the answers still work.
//
// Who comes without a session sees the login and the assets, nothing else: see
// the table in routes.go, from which the handler is made and which the tests walk.
// A session belongs to a user of the file (package users), is remembered in memory
// (package session), and what people do is told to the trail (package audit).
//
// A study is named by its pseudonym. What else of its identity is shown, where a
// study is opened, is the site's decision.
//
// Everything clinical on it is a suspected finding, not for diagnosis, and every
// page says so.
package console
