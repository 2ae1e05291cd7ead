package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// flaws looks on a page for what stands in the way of people: text that is hard to tell from
// its ground (WCAG 2, AA), what has no name for those who do not see it, a skipped heading.
const flaws = `(() => {
	const flaws = [];
	const parse = c => { const m = c.match(/[\d.]+/g).map(Number); if (c.startsWith('color(')) { return [m[0]*255, m[1]*255, m[2]*255, m[3] ?? 1]; } return [m[0], m[1], m[2], m[3] ?? 1]; };
	const light = c => { const l = c.slice(0, 3).map(v => { v /= 255; return v <= 0.03928 ? v/12.92 : ((v+0.055)/1.055) ** 2.4; }); return 0.2126*l[0] + 0.7152*l[1] + 0.0722*l[2]; };
	const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
	for (const e of document.querySelectorAll('body *')) {
		const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
		const box = e.getBoundingClientRect();
		if (!own || box.width < 2 || box.height < 2 || e.closest('.quiet-text, .skip, title, option, svg') || e.checkVisibility?.() === false) continue;
		const style = getComputedStyle(e), back = ground(e), front = parse(style.color);
		let opacity = front[3]; for (let p = e; p; p = p.parentElement) opacity *= Number(getComputedStyle(p).opacity);
		const mixed = front.slice(0, 3).map((v, i) => v*opacity + back[i]*(1-opacity));
		const [a, b] = [light(mixed), light(back)].sort((x, y) => y - x), ratio = (a+0.05)/(b+0.05);
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
		if (ratio < (large ? 3 : 4.5)) flaws.push('contrast ' + ratio.toFixed(2) + ' of ' + JSON.stringify(e.textContent.trim().slice(0, 40)));
	}
	for (const e of document.querySelectorAll('input:not([type=hidden]), select')) if (!e.labels.length) flaws.push('no label: ' + e.name);
	for (const e of document.querySelectorAll('button, a[href], summary')) if (!e.textContent.trim()) flaws.push('no name: ' + e.outerHTML.slice(0, 80));
	for (const e of document.querySelectorAll('img:not([alt]), svg:not([aria-label], [aria-hidden])')) flaws.push('no words for ' + e.outerHTML.slice(0, 80));
	if (document.querySelectorAll('h1').length !== 1 || document.querySelectorAll('main').length !== 1) flaws.push('not one h1 and one main');
	const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
	if (new Set(ids).size !== ids.length) flaws.push('an id is there twice');
	for (const e of document.querySelectorAll('main *:not(.quiet-text)')) {
		if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 2 && getComputedStyle(e).overflowX === 'hidden') flaws.push('cut off: ' + e.textContent.trim().slice(0, 40));
	}
	for (const e of document.querySelectorAll('main section, main article, main .panel')) {
		const outer = e.getBoundingClientRect();
		for (const i of e.querySelectorAll('p, h1, h2, h3, button, .button, code, input, select')) {
			const inner = i.getBoundingClientRect();
			if (inner.width > 2 && (inner.right > outer.right + 1 || inner.left < outer.left - 1) && !i.closest('.scroll')) flaws.push('sticks out: ' + i.textContent.trim().slice(0, 40));
		}
	}
	let level = 1;
	for (const e of document.querySelectorAll('h1, h2, h3, h4')) { const l = Number(e.tagName[1]); if (l > level + 1) flaws.push('heading skipped at ' + e.textContent); level = l; }
	return flaws;
})()`

// TestScreenshots takes a picture of every page, for people to look at, and looks at what a
// program can see of them: nothing is wider than the window, and nothing stands in the way of people.
func TestScreenshots(t *testing.T) {
	t.Parallel()
	w := setup(t)
	review, live, _ := w.everyday()
	lock, err := w.SQL.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(t.Context()) }()
	if _, err := lock.Exec(t.Context(), "SELECT pg_advisory_xact_lock(bid_lock_key('upwork', 'due-1')), pg_advisory_xact_lock(4711)"); err != nil {
		t.Fatal(err)
	}
	visitor, ops := w.visitor(), w.signedIn("Mara Ilić", token)
	for _, shot := range []struct {
		name, path string
		by         *person
		prepare    string
	}{
		{"sign-in", "/", visitor, ""},
		{"now", "/", ops, ""},
		{"bids", "/bids", ops, ""},
		{"bids-none", "/bids?q=nothing+like+this", ops, ""},
		{"bid", "/bids/" + review.String(), ops, ""},
		{"bid-resolve", "/bids/" + review.String(), ops, "document.querySelectorAll('details').forEach(d => d.open = true)"},
		{"bid-live", "/bids/" + live.String(), ops, ""},
		{"review", "/review", ops, ""},
		{"posting", "/postings/upwork/~01f00d", ops, ""},
		{"locks", "/locks", ops, ""},
		{"missing", "/bids/none", ops, ""},
	} {
		shot.by.open(shot.path)
		if shot.prepare != "" {
			shot.by.do(chromedp.Evaluate[chromedp.Void](shot.prepare))
		}
		shot.by.picture(shot.name)
	}
}

// picture takes pictures of the page as it is.
func (p *person) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("BIDDER_TEST_SCREENSHOTS")
	if dir == "" {
		dir = p.t.ArtifactDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	for _, width := range []int64{360, 800, 1400} {
		for _, colours := range []string{"light", "dark"} {
			p.looks(width, colours)
			if wide := js[int64](p, "document.documentElement.scrollWidth"); wide > width {
				p.t.Errorf("%s is %d pixels wide in a window of %d", name, wide, width)
			}
			for _, flaw := range js[[]string](p, flaws) {
				p.t.Errorf("%s at %d, %s: %s", name, width, colours, flaw)
			}
			picture := get(p, chromedp.FullScreenshot(100))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, colours)), picture, 0o644); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}
