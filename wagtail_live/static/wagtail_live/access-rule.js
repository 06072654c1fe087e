/**
 * The form of an access rule: shows what the choices made so far ask for. Without it all is shown.
 */

const whole = (input) => input.closest("[data-field-wrapper]") ?? input.parentElement;

function show(form) {
  const who = form.elements.namedItem("who").value;
  for (const name of ["group", "token"]) {
    whole(form.elements.namedItem(name)).hidden = who !== name;
  }
  const collection = form.elements.namedItem("collection").value;
  for (const fieldset of form.querySelectorAll("fieldset[data-collection]")) {
    const other = fieldset.dataset.collection !== collection;
    fieldset.hidden = other;
    fieldset.disabled = other; // what is not shown is not sent
  }
}

const form = document.querySelector("fieldset[data-collection]")?.closest("form");
if (form) {
  form.addEventListener("change", () => show(form));
  show(form);
}
