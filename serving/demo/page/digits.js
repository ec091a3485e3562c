// The test digits: a button for each, with what the model makes of it.

import { element, paint } from "./picture.js";

/**
 * @param {HTMLElement} place
 * @param {import("./api.js").Digit[]} digits
 * @param {(digit: import("./api.js").Digit) => void} onChoose
 */
export function list(place, digits, onChoose) {
  const groups = [["Mostly read well", digits.slice(0, 10)], ["Often misread", digits.slice(10)]].map(([name, some]) => {
    const group = element("div", "group");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", name);
    group.append(element("p", "facts", name), ...some.map((digit) => choice(place, digit, onChoose)));
    return group;
  });
  const focused = [...place.querySelectorAll("button")].indexOf(document.activeElement);
  place.replaceChildren(...groups);
  place.querySelectorAll("button")[focused]?.focus();
}

/** @param {HTMLElement} place */
export function unmark(place) {
  place.querySelector("[aria-current]")?.removeAttribute("aria-current");
}

function choice(place, digit, onChoose) {
  const { position, truth, answer } = digit;
  const wrong = answer !== null && answer !== truth;
  const button = element("button", wrong ? "digit wrong" : "digit");
  const canvas = element("canvas");
  paint(canvas, digit);
  button.type = "button";
  button.append(canvas, element("span", "", wrong ? `${truth}→${answer}` : `${truth}`));
  button.setAttribute("aria-label", `${truth}${wrong ? `, read as ${answer}` : ""}: test digit ${position}`);
  button.addEventListener("click", () => {
    unmark(place);
    button.setAttribute("aria-current", "true");
    onChoose(digit);
  });
  return button;
}
